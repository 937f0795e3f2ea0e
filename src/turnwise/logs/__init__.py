"""Logged conversations: read, checked, described and kept in one canonical form.

Readers turn each export format into records; the importer validates, pseudonymises, redacts and
writes them. No model here, and nothing that a run of turnwise wrote itself.
"""
