"""Scores to decisions to an audited, numbered version that readers see at once.

Offers: publication (make, ship), decisions, thresholds, overrides, approvals, figures; audits/
judges, versions/ keeps the log, rolls back and removes. A version that fails its audits changes
nothing for readers. Never imports feed or reports.
"""
