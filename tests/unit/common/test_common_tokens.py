"""Only a service that holds the secret can speak for a tenant, and only for a minute."""

import pytest

from penstock.common.tokens import Identity, TokenError, issue, verify

SECRET = "a-secret-of-at-least-thirty-two-characters"
ADA = Identity(tenant="acme", key="k1", roles=frozenset({"reader"}), groups=("staff",))


def test_a_token_names_who_it_was_issued_for() -> None:
    assert verify(issue(ADA, SECRET), SECRET) == ADA


def test_a_forged_an_expired_and_a_garbled_token_do_not_hold() -> None:
    for token in (issue(ADA, SECRET + "x"), issue(ADA, SECRET, ttl_s=-1), "no.token.atall"):
        with pytest.raises(TokenError):
            verify(token, SECRET)
