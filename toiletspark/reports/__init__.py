"""HTML pages for people: one self-contained file each, with no server, no script and no external resource."""
