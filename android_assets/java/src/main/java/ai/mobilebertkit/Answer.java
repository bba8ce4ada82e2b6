package ai.mobilebertkit;

/** The answer to a question: a part of its context. */
public final class Answer {
    private final String text;
    private final double score;

    Answer(String text, double score) {
        this.text = text;
        this.score = score;
    }

    /**
     * Words of the context with a space between them; "empty", as run_squad.py has it, where none was found.
     */
    public String text() {
        return text;
    }

    /** The start logit plus the end logit; compares spans of one question, no probability. */
    public double score() {
        return score;
    }

    /** Whether any span of the context could be an answer. */
    public boolean found() {
        return score != Double.NEGATIVE_INFINITY;
    }

    @Override
    public String toString() {
        return text + " (" + score + ")";
    }
}
