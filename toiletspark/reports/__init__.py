"""HTML pages for people: one self-contained file each, with no server and no external resource.

Offers the run page, plan page, head page, sample page and contact sheet, and two tables for the
terminal. In each folder `page.py` renders, without Spark, and `gather.py` collects with it. Every
string on a page is text, never markup.
"""
