"""Runs the field's cases, `field/` of the shared folder, and checks what each one must give.

One module holds the checks of cases of one kind; `cases` has what they share.
"""
