"""Patterns of names: what they match, that filling in undoes matching, which keys two share, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import RuleError
from zoo.weights.keymaps.patterns import Pattern, shared_key

MATCHES = [
    ("conv1.weight", "conv1.weight", {}),
    ("conv1.weight", "conv1xweight", None),
    ("conv1.weight", "conv1.weight.", None),
    ("layer{i}.{rest...}", "layer10.0.bn1.weight", {"i": 10, "rest": "0.bn1.weight"}),
    ("layer{i}.{rest...}", "layer10", None),
    ("layer{i}.{name}", "layer1.0.weight", None),
    ("layer{i}.weight", "layer01.weight", None),
    ("layer{i}.weight", "layer.weight", None),
    ("layer{i}.weight", "layer٣.weight", None),
    ("layer{i}.weight", "layer-1.weight", None),
    (f"x{'{i}'}", "x" + "1" * 5000, None),
    ("layer{i+1}.weight", "layer1.weight", {"i": 0}),
    ("layer{i+1}.weight", "layer0.weight", None),
    ("conv.{3*i+1}.bias", "conv.7.bias", {"i": 2}),
    ("conv.{3*i+1}.bias", "conv.8.bias", None),
    ("conv{i}_{j}.bias", "conv3_12.bias", {"i": 3, "j": 12}),
    ("{prefix...}.{leaf:weight|bias}", "a.b.weight", {"prefix": "a.b", "leaf": "weight"}),
    ("{prefix...}.{leaf:weight|bias}", "a.b.weights", None),
    ("a.{rest...}.z", "a.z", None),
    ("a.{rest...}.z", "a.z.z", {"rest": "z"}),
    ("a+b.(x)", "a+b.(x)", {}),
    ("a+b", "aab", None),
    ("{name}", "with space/and:more", {"name": "with space/and:more"}),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "key", "binding"), MATCHES, ids=range(len(MATCHES)))
def test_a_pattern_matches_whole_keys_and_tells_what_its_placeholders_stand_for(
    pattern: str, key: str, binding: dict[str, int | str] | None
) -> None:
    parsed = Pattern.parse(pattern)
    assert parsed.match(key) == binding
    if binding is not None:
        assert parsed.render(binding) == key


REFUSED = [
    ("layer{", "holds a brace of no placeholder; expected {i}, {i+1}"),
    ("layer{I}", "holds a brace of no placeholder"),
    ("{i*3}", "holds a brace of no placeholder"),
    ("{i-}", "holds a brace of no placeholder"),
    ("{rest+1...}", "holds a brace of no placeholder"),
    ("a..b", "a name in it is empty: it begins or ends with a dot, or has two in a row"),
    (".a", "a name in it is empty"),
    ("", "a name in it is empty"),
    ("{rest...}.", "a name in it is empty"),
    ("conv{name}", "{name} has text beside it; it stands for all between two dots"),
    ("{rest...}x", "{rest} has text beside it"),
    ("{i}.{i}", "{i} stands in it twice; give the second another name"),
    ("{i}{j}", "two indices in it have only digits between them: put a letter or a dot there"),
    ("{i}0{j}", "two indices in it have only digits between them"),
    ("{a...}.x.{b...}", "it has two placeholders with dots, so that a key could be cut in two ways"),
    ("{2*name}", "{2*name}: one letter stands for a number, a longer name for text"),
    ("{name+1}", "{name+1}: one letter stands for a number"),
    ("{2*rest...}", "{2*rest...}: one letter stands for a number"),
    ("{i:1|2}", "{i:1|2}: one letter stands for a number"),
    ("{leaf:a||b}", "{leaf:a||b}: expected different words with '|' between them"),
    ("{leaf:a|a}", "expected different words with '|' between them"),
    (7, "found 'int'; expected a name, with placeholders or without"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_no_pattern_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(RuleError) as raised:
        Pattern.parse(text)
    assert raised.value.rule == repr(text)
    assert reason in raised.value.reason


SHARED = [
    ("conv1.weight", "conv1.weight", "conv1.weight"),
    ("conv1.weight", "conv2.weight", None),
    ("layer{i}.weight", "layer4.weight", "layer4.weight"),
    ("layer{i}.weight", "layers.weight", None),
    ("layer{i}.weight", "layer{j+1}.weight", "layer1.weight"),
    ("conv.{2*i}.w", "conv.{2*i+1}.w", None),
    ("conv.{2*i}.w", "conv.{3*i+1}.w", "conv.4.w"),
    ("a{i}", "a1{j}", "a10"),
    ("{i}", "512", "512"),
    ("{rest...}", "a.b", "a.b"),
    ("{rest...}.weight", "a.{name}", "a.weight"),
    ("{rest...}.weight", "{name}.{rest...}", "x.weight"),
    ("{rest...}.a", "{rest...}.b", None),
    ("a.{rest...}", "{rest...}.b", "a.b"),
    ("a.{rest...}.z", "a.z", None),
    ("{rest...}", "a", "a"),
    ("{name}.{other}", "{rest...}", "x.x"),
    ("{leaf:weight|bias}", "{leaf:running_mean|running_var}", None),
    ("{leaf:weight|bias}", "{name}", "weight"),
    ("{leaf:0|1}.w", "{i}.w", "0.w"),
    ("{rest...}.num_batches_tracked", "layer{i}.{j}.{rest...}", "layer0.0.num_batches_tracked"),
]


@pytest.mark.parametrize(("left", "right", "key"), SHARED)
def test_a_key_that_two_patterns_share_is_found_whichever_comes_first(left: str, right: str, key: str | None) -> None:
    one, other = Pattern.parse(left), Pattern.parse(right)
    for first, second in ((one, other), (other, one)):
        found = shared_key(first, second)
        assert (found is None) == (key is None)
        if found is not None:
            assert one.match(found) is not None
            assert other.match(found) is not None
    if key is not None:
        assert one.match(key) is not None
        assert other.match(key) is not None


COMPONENTS = st.sampled_from(
    ["a", "conv1", "weight", "{i}", "layer{i+2}", "b{3*i+1}c", "{name}", "{leaf:weight|bias}", "{rest...}", "x{i}_{j}"]
)


@given(st.lists(COMPONENTS, min_size=1, max_size=4), st.integers(0, 99), st.integers(0, 99), st.integers(1, 3))
def test_what_a_pattern_renders_it_matches_with_the_same_binding(
    components: list[str], i: int, j: int, count: int
) -> None:
    try:
        pattern = Pattern.parse(".".join(components))
    except RuleError:
        return  # a placeholder stands in it twice
    values = {"i": i, "j": j, "name": "some", "leaf": "bias", "rest": ".".join(["part"] * count)}
    binding = {p.name: values[p.name] for p in pattern.placeholders}
    assert pattern.match(pattern.render(binding)) == binding


@given(st.lists(COMPONENTS, min_size=1, max_size=3), st.lists(COMPONENTS, min_size=1, max_size=3))
def test_a_shared_key_is_matched_by_both(left: list[str], right: list[str]) -> None:
    try:
        one, other = Pattern.parse(".".join(left)), Pattern.parse(".".join(right))
    except RuleError:
        return
    key = shared_key(one, other)
    if key is not None:
        assert one.match(key) is not None
        assert other.match(key) is not None
    if left == right:
        assert key is not None
