package ai.mobilebertkit;

import java.util.ArrayList;
import java.util.List;

/** Which files of a bundle a device may try. */
public final class ModelChooser {
    private ModelChooser() {}

    /**
     * The models for an Android API level, in the order to try them.
     *
     * @throws IllegalArgumentException if there is none.
     */
    public static List<ModelFile> candidates(ModelBundle bundle, int apiLevel) {
        List<ModelFile> candidates = new ArrayList<>();
        List<String> all = new ArrayList<>();
        for (ModelFile model : bundle.models()) {
            all.add(model.delegate());
            if (model.runsOn(apiLevel)) {
                candidates.add(model);
            }
        }
        if (candidates.isEmpty()) {
            throw new IllegalArgumentException(
                    "Expected a model for Android API level " + apiLevel + ", got one for "
                    + String.join(", ", all) + " only. Bundle the target 'cpu' too.");
        }
        return candidates;
    }
}
