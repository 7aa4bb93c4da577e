"""A small drawn property-portal catalog, to try toiletspark without tables of one's own.

`catalog.draw_catalog` draws it, `labelling.label_like_a_person` plays the people who label,
`rooms.draw_room` draws one picture. Imported by jobs and tests alone.
"""
