package ai.mobilebertkit;

/** BERT's uncased WordPiece: the longest piece first (google-research, mobilebert/tokenization.py). */
public final class WordPieceTokenizer {
    private static final int MAX_WORD_LENGTH = 200; // code points; a longer word is [UNK]

    private final Vocabulary vocabulary;
    private final int unknown;

    public WordPieceTokenizer(Vocabulary vocabulary) {
        this.vocabulary = vocabulary;
        unknown = vocabulary.id(Vocabulary.UNKNOWN);
    }

    public Vocabulary vocabulary() {
        return vocabulary;
    }

    /**
     * The ids of a text, without [CLS] and [SEP]; "[SEP]" in a text is text like any other.
     *
     * @throws IllegalArgumentException if the text holds half a surrogate pair.
     */
    public int[] ids(String text) {
        IntList ids = new IntList(text.length());
        for (String word : BasicTokenizer.tokens(text)) {
            addPieces(word, ids);
        }
        return ids.toArray();
    }

    private void addPieces(String word, IntList ids) {
        int before = ids.length();
        boolean known = word.codePointCount(0, word.length()) <= MAX_WORD_LENGTH;
        for (int start = 0; known && start < word.length(); ) {
            int end = word.length();
            // Cut by UTF-16 units: no vocabulary has a piece that ends in half a surrogate pair.
            while (end > start && vocabulary.id(piece(word, start, end)) == null) {
                end--;
            }
            known = end > start;
            if (known) {
                ids.append(vocabulary.id(piece(word, start, end)));
            }
            start = end;
        }
        if (!known) {
            ids.truncate(before);
            ids.append(unknown);
        }
    }

    private static String piece(String word, int start, int end) {
        return (start == 0 ? "" : "##") + word.substring(start, end);
    }
}
