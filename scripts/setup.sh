# Sourced by the other scripts: `ensure_venv EXTRA` makes .venv with this project and one of its extras, or reuses it.
# It is up to date if pyproject.toml and the interpreter are those it was made with.

cd "$(dirname "${BASH_SOURCE[0]}")/.."

ensure_venv() {
    local extra="$1" python stamp wanted
    python="${PYTHON:-python3}"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "Python 3.11 or newer is needed; $python is $("$python" --version 2>&1). Set PYTHON to another one." >&2
        exit 1
    }
    stamp=".venv/.installed-$extra"
    wanted="$("$python" --version) $PWD $(cksum <pyproject.toml)"
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
        echo "Setting up .venv with zoo-torch[$extra]; the first time takes some minutes." >&2
        [ "$(.venv/bin/python --version 2>/dev/null)" = "$("$python" --version)" ] || "$python" -m venv --clear .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[$extra]" || exit 1
        echo "$wanted" >"$stamp"
    fi
    export PATH="$PWD/.venv/bin:$PATH"
}
