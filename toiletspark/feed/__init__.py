"""Everything that readers get of the live version, and the toilets that are still in it.

Offers: readers (read_current is the public one), feed, best_images, alerts, leak_meter. Readers get
one version, complete, or an error. Never imports reports.
"""
