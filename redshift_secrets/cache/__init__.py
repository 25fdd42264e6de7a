"""Entries that are costly to make, kept in memory and in stores that processes share; one refresh for all.

Knows nothing of Redshift or AWS. `refresh` says how; docs/contract.md, "Ages", says what everybody gets meanwhile.
"""
