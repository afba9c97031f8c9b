from zoo.weights.keymaps.keymap import Keymap, Rename, Table

KEYMAP = Keymap("brk", (Table(backbone="lenet", rules=(Rename("a.{i}", "x.{i}"), Rename("a.0", "y"))),))
