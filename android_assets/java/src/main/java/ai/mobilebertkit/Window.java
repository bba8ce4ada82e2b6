package ai.mobilebertkit;

import java.util.Arrays;

/**
 * One input of the model: [CLS] question [SEP] a stretch of the context [SEP] [PAD] ...
 *
 * <p>The arrays have as many entries as the model takes tokens; they are the window's own, not copies.
 */
public final class Window {
    final int contextStart; // position of the first context token: question tokens + 2
    final int firstToken; // which token of the context that is
    final int length; // tokens of the context
    final boolean[] isMaxContext; // for each of them: no other window has more context on both sides

    private final int[] inputIds;
    private final int[] inputMask;
    private final int[] segmentIds;

    Window(
            int[] questionIds,
            Passage passage,
            int firstToken,
            boolean[] isMaxContext,
            Vocabulary vocabulary,
            int size) {
        this.firstToken = firstToken;
        this.isMaxContext = isMaxContext;
        contextStart = questionIds.length + 2;
        length = isMaxContext.length;
        inputIds = new int[size]; // [PAD] is 0: see Vocabulary
        inputMask = new int[size];
        segmentIds = new int[size];
        int end = contextStart + length;
        inputIds[0] = vocabulary.id(Vocabulary.CLS);
        System.arraycopy(questionIds, 0, inputIds, 1, questionIds.length);
        inputIds[contextStart - 1] = vocabulary.id(Vocabulary.SEP);
        System.arraycopy(passage.ids, firstToken, inputIds, contextStart, length);
        inputIds[end] = vocabulary.id(Vocabulary.SEP);
        Arrays.fill(inputMask, 0, end + 1, 1);
        Arrays.fill(segmentIds, contextStart, end + 1, 1);
    }

    /** The tokens' ids, then 0. */
    public int[] inputIds() {
        return inputIds;
    }

    /** 1 for a token, 0 for padding. */
    public int[] inputMask() {
        return inputMask;
    }

    /** 1 for the context and the [SEP] after it, else 0. */
    public int[] segmentIds() {
        return segmentIds;
    }

    /** How many entries are no padding. */
    int tokens() {
        return contextStart + length + 1;
    }

    /** Whether an answer may start at this position. */
    boolean mayStart(int position) {
        return mayEnd(position) && isMaxContext[position - contextStart];
    }

    /** Whether an answer may end at this position: it is one of the context. */
    boolean mayEnd(int position) {
        return position >= contextStart && position < contextStart + length;
    }

    /** The position in the context's words of the word that the token at this position is a piece of. */
    int word(Passage passage, int position) {
        return passage.wordOfToken[firstToken + position - contextStart];
    }
}
