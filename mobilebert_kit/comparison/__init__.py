"""Two models over the same windows. A reader brings its framework with it, once such a model is opened."""
