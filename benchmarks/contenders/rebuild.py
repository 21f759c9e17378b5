"""Rebuilds all read models of a store from its events, once a round."""

from __future__ import annotations
