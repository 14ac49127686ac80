"""Whether somebody is a member of an organization: yes, no, or an error, and never a guess."""

from __future__ import annotations

from forge.clients.http_core import ForgeHttp, path_of
from forge.model.errors import ForgeAway, MembershipAway, MembershipUnknown

#: Every status below 500 that is no rate limit.
_ANY_STATUS = range(100, 500)


async def membership(http: ForgeHttp, organization: str, login: str, *, needs: str) -> bool:
    """Return whether somebody is a member of an organization. Gitea and GitHub have the same route for it.

    Raises:
        MembershipUnknown: the forge said neither yes (204) nor no (404).
        MembershipAway: it does not respond, or cannot now.
    """
    path = path_of("orgs", organization, "members", login)
    try:
        response = await http.get(path, needs=needs, expected=_ANY_STATUS)
    except ForgeAway as error:
        raise MembershipAway(str(error), retry_after=error.retry_after) from error
    match response.status:
        case 204:
            return True
        case 404:
            return False
        case 302 | 303:
            why = (
                f"The configured token belongs to an account outside of the organization {organization}. Use a token "
                "of an account that is a member."
            )
        case 401:
            why = "The forge does not accept the configured token: it expired, was revoked, or is another forge's."
        case 403:
            why = f"The configured token lacks a permission: {needs}, or what the organization asks for."
        case _:
            why = "Check the configured address of the forge."
    raise MembershipUnknown(
        f"The forge {http.address.host} did not say whether {login} is a member of {organization} "
        f"({response.status}). {why}",
        status=response.status,
        body=http.masked(response.body),
    )
