"""Iterative PPO: fit Q to logged conversations, gate it, improve the policy one turn at a time,
confirm, and begin again.

Source: Jiang, Bhandari, Yang, Munos, Lu, arXiv:2511.21638.
"""
