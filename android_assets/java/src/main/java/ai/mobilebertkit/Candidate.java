package ai.mobilebertkit;

/** One of the n best answers to a question. */
public final class Candidate {
    private final String text;
    private final double score;
    private final double probability;
    private final int firstWord;
    private final int lastWord;

    Candidate(String text, double score, double probability, int firstWord, int lastWord) {
        this.text = text;
        this.score = score;
        this.probability = probability;
        this.firstWord = firstWord;
        this.lastWord = lastWord;
    }

    /** Words of the context with a space between them. */
    public String text() {
        return text;
    }

    /** The start logit plus the end logit. */
    public double score() {
        return score;
    }

    /** Among the candidates of its list, 0 to 1. */
    public double probability() {
        return probability;
    }

    /** The word of the context that the text begins in; see Passage.start. */
    public int firstWord() {
        return firstWord;
    }

    /** The word of the context that the text ends in; see Passage.end. */
    public int lastWord() {
        return lastWord;
    }
}
