"""Draws a small property-portal catalog, pictures included, to try toiletspark without tables of one's own.

Start with `catalog.draw_catalog`; `labelling.label_like_a_person` then plays the people who label;
`rooms.draw_room` draws one picture.
"""
