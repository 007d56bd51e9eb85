# Copyright (c) 2026 The meshops.istio developers
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collects what is wrong with the options of services, each at its place. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, cast

from ..problems import Problem
from .names import is_dns_label

_T = TypeVar("_T")


class Reader:
    """Collects problems while options are read, so that users see all of them at once."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def wrong(self, code: str, where: str, message: str, remedy: str) -> None:
        self.problems.append(Problem(code, where, message, remedy))

    def label(self, where: str, option: str, value: str) -> str:
        if not is_dns_label(value):
            self.wrong(
                "invalid_name",
                f"{where}.{option}" if where else option,
                f"expected a DNS label (lower-case letters, digits and hyphens, 63 characters at most), found {value!r}",
                "choose another name",
            )
        return value

    def port(self, where: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
            self.wrong("invalid_port", where, f"expected a port number from 1 to 65535, found {value!r}", "give the port's number")
            return 0
        return value

    def one_of(self, where: str, value: Any, choices: Sequence[_T]) -> _T:
        if value not in choices:
            self.wrong("invalid_choice", where, f"expected one of {', '.join(map(str, choices))}, found {value!r}", "choose one of them")
            return choices[0]
        return cast(_T, value)


def given_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    return {option: value for option, value in (options or {}).items() if value is not None}
