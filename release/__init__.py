"""An environment for clusters, and the checks of `make check` about the pinned packages."""
