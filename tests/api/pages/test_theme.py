"""Both themes can be read: contrast as WCAG 2.2 asks for it."""

from __future__ import annotations

import re

import pytest

from api.pages.rendering import STATIC

SHEET = (STATIC / "driftward.css").read_text(encoding="utf-8")
TEXT = 4.5  # WCAG 2.2, 1.4.3
GRAPHICS = 3.0  # WCAG 2.2, 1.4.11

Colour = tuple[int, int, int]


def block(start: str) -> dict[str, str]:
    found = re.search(re.escape(start) + r"\s*{(.*?)}", SHEET, re.DOTALL)
    assert found is not None, start
    return dict(re.findall(r"--([\w-]+):\s*(.*?);", found.group(1)))


THEMES = {
    "light": block(":root"),
    "dark": {**block(":root"), **block(':root[data-theme="dark"]')},
}


def colour(text: str) -> Colour:
    assert re.fullmatch("#[0-9a-f]{6}", text), text
    red, green, blue = (int(text[place : place + 2], 16) for place in (1, 3, 5))
    return red, green, blue


def luminance(of: Colour) -> float:
    parts = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (part / 255 for part in of)
    ]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted((luminance(colour(first)), luminance(colour(second))))
    return (lighter + 0.05) / (darker + 0.05)


def test_the_formula_gives_21_for_black_on_white() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("ground", ["page", "card", "faint"])
@pytest.mark.parametrize("ink", ["text", "muted", "blue", "green", "amber", "red"])
def test_every_ink_can_be_read_on_every_ground(theme: str, ground: str, ink: str) -> None:
    colours = THEMES[theme]
    assert contrast(colours[ink], colours[ground]) >= TEXT


@pytest.mark.parametrize("theme", THEMES)
def test_a_button_s_words_can_be_read(theme: str) -> None:
    colours = THEMES[theme]
    assert contrast(colours["on-blue"], colours["blue"]) >= TEXT


@pytest.mark.parametrize("theme", THEMES)
def test_a_subgroup_that_moved_stands_out_from_the_card(theme: str) -> None:
    colours = THEMES[theme]
    assert contrast(colours["moved-6"], colours["card"]) >= GRAPHICS
    assert contrast(colours["shade-6"], colours["card"]) >= GRAPHICS


def test_the_dark_theme_is_the_same_by_system_and_by_choice() -> None:
    by_system = block(':root:not([data-theme="light"])')
    assert by_system == block(':root[data-theme="dark"]')


def test_no_colour_stands_outside_of_the_themes() -> None:
    rules = re.sub(r":root[^{]*{.*?}", "", SHEET, flags=re.DOTALL)
    assert set(re.findall(r"#[0-9a-f]{3,8}\b", rules)) <= {"#000", "#fff"}
