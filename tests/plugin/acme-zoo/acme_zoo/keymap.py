"""The names that an older framework of Acme's had for the tensors of acme-net."""

from zoo.weights.keymaps.keymap import Keymap, NoCounterpart, Permute, Rename, Table

KEYMAP = Keymap(
    "acme",
    (
        Table(
            backbone="acme-zoo:tiny",
            neck="gap",
            head="linear",
            rules=(
                Rename("stem.{name}", "backbone.conv.{name}"),
                Rename("out.kernel", "head.fc.weight", layout=(Permute((1, 0)),)),
                Rename("out.bias", "head.fc.bias"),
                NoCounterpart("revision", why="the framework numbered its files", value=2, dtype="int64"),
            ),
        ),
    ),
)
