from __future__ import annotations

import re
from importlib.resources import files

from danube_admin_service.console.actions import ACTIONS
from danube_admin_service.console.pages import PAGES

TEMPLATES = files("danube_admin_service.console") / "templates"
OTHER_POSTS = {"/login", "/logout"}
BY_MACRO = {"set-topic-policy", "clear-topic-policies", "set-namespace-policy", "clear-namespace-policies"}
"""Their names reach the form through the macro for tables of policies."""


def sent_by_templates() -> tuple[set[str], set[str]]:
    """The targets of all forms by POST and by GET, buttons with a target of their own too."""
    posts: set[str] = set()
    gets: set[str] = set()
    for template in TEMPLATES.iterdir():
        text = template.read_text(encoding="utf-8")
        for method, target in re.findall(r'<form method="(\w+)" action="([^"]+)"', text):
            (posts if method == "post" else gets).add(target)
        posts |= set(re.findall(r'formaction="([^"]+)"', text))
        assert len(re.findall("<form", text)) == len(re.findall(r'<form method="\w+" action="[^"]+"', text))
    return posts, gets


def test_every_action_has_a_form_and_every_form_an_action_or_a_page() -> None:
    posts, gets = sent_by_templates()
    by_macro = {"/do/{{ action }}", "/do/{{ clear }}"}
    actions = {one.removeprefix("/do/") for one in posts - by_macro if one.startswith("/do/")} | BY_MACRO
    assert actions == ACTIONS.keys()
    others = {one for one in posts - by_macro if not one.startswith("/do/")} - OTHER_POSTS
    assert others <= {path for path, page in PAGES.items() if page.asked_by_form}
    assert gets <= PAGES.keys()
