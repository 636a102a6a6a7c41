"""Secure sum: many clients' rows added up so that nobody sees a single one."""
