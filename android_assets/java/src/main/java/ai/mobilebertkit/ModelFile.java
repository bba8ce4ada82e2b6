package ai.mobilebertkit;

/** One model of a bundle, and where it may run. */
public final class ModelFile {
    private final String delegate;
    private final String file;
    private final int minApi;
    private final Integer maxApi;
    private final String fallback;

    ModelFile(String delegate, String file, int minApi, Integer maxApi, String fallback) {
        this.delegate = delegate;
        this.file = file;
        this.minApi = minApi;
        this.maxApi = maxApi;
        this.fallback = fallback;
    }

    /** "nnapi", "gpu" or "cpu". */
    public String delegate() {
        return delegate;
    }

    /** Relative to bundle.json. */
    public String file() {
        return file;
    }

    /** The delegate to take where this one fails; null where the bundle has no other. */
    public String fallback() {
        return fallback;
    }

    /** Whether a device of this Android API level may try it: NNAPI is deprecated since 35, for instance. */
    public boolean runsOn(int apiLevel) {
        return apiLevel >= minApi && (maxApi == null || apiLevel <= maxApi);
    }
}
