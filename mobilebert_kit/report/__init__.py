"""report.html of an export or a bundle: what is gathered, and how it is shown."""
