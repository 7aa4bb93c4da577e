"""The rules of a version: about its sources (inputs, rescoring), rows (checks) and changes (drift).

`checks` names all rules and stops a publication; `significance` separates change from chance.
"""
