"""Governing recordings: holds, erasing, and the signed facts about both. It knows ledger, archive
and catalogue, and is for duties, commands and web alike.
"""
