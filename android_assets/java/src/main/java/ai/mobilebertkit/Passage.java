package ai.mobilebertkit;

import java.util.List;

/** A text that questions are asked about, in words and in wordpieces: made once, asked often. */
public final class Passage {
    final List<String> words;
    final int[] ids;
    final int[] wordOfToken; // for each id, the position in `words` of the word that it is a piece of
    private final int[] starts; // of the words in the text

    /**
     * Tokenizes a text word by word, as run_squad.py does.
     *
     * @throws IllegalArgumentException if the text holds half a surrogate pair.
     */
    public Passage(WordPieceTokenizer tokenizer, String text) {
        words = Whitespace.contextWords(text);
        IntList all = new IntList(text.length());
        IntList places = new IntList(text.length());
        for (int word = 0; word < words.size(); word++) {
            for (int id : tokenizer.ids(words.get(word))) {
                all.append(id);
                places.append(word);
            }
        }
        ids = all.toArray();
        wordOfToken = places.toArray();
        starts = new int[words.size()];
        for (int word = 0, end = 0; word < words.size(); word++) {
            starts[word] = text.indexOf(words.get(word), end);
            end = end(word);
        }
    }

    /** Where a word starts in the text, in chars of the String: to mark an answer in it. */
    public int start(int word) {
        return starts[word];
    }

    /** Where a word ends in the text: the place after its last char. */
    public int end(int word) {
        return starts[word] + words.get(word).length();
    }
}
