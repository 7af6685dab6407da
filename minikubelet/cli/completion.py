"""`minikubelet completion SHELL`: code for bash, zsh and fish, which asks `minikubelet complete` at each Tab.

So all shells complete alike, names are live, and what the line says so far counts. Loading the code runs nothing.
"""

from __future__ import annotations

import argparse
from typing import Final

EXAMPLES = """\
examples:
  source <(minikubelet completion bash)                                             for this shell
  minikubelet completion bash > /etc/bash_completion.d/minikubelet                  for all
  source <(minikubelet completion zsh)                                              after compinit
  minikubelet completion zsh > "${fpath[1]}/_minikubelet"
  minikubelet completion fish > ~/.config/fish/completions/minikubelet.fish
"""

_BASH: Final = r"""# bash completion for minikubelet
_minikubelet() {
    local line=${COMP_LINE:0:COMP_POINT} current candidate cut
    local -a words
    # Not COMP_WORDS: bash breaks those at = and :.
    read -ra words <<<"$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current=${words[-1]}
    cut=
    [[ $current == *[=:]* && $COMP_WORDBREAKS == *[=:]* ]] && cut=${current%"${current##*[=:]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r candidate _; do
        case $candidate in
            :files) compopt -o default 2>/dev/null ;;
            :directories) compopt -o nospace 2>/dev/null; COMPREPLY+=($(compgen -d -S / -- "${current#*=}")) ;;
            *)
                [[ $candidate == *[=/:.] ]] && compopt -o nospace 2>/dev/null
                COMPREPLY+=("${candidate#"$cut"}")
                ;;
        esac
    done < <(minikubelet complete -- "${words[@]:1}" 2>/dev/null)
}
complete -F _minikubelet minikubelet
"""

_ZSH: Final = r"""#compdef minikubelet
_minikubelet() {
    local line value text paths=
    local -a whole open
    while IFS= read -r line; do
        value=${line%%$'\t'*}
        text=
        [[ $line == *$'\t'* ]] && text=":${line#*$'\t'}"
        case $value in
            :files) paths=files ;;
            :directories) paths=directories ;;
            *[=/:.]) open+=("${value//:/\\:}$text") ;;
            *) whole+=("${value//:/\\:}$text") ;;
        esac
    done < <(minikubelet complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    (( $#whole )) && _describe -V minikubelet whole
    (( $#open )) && _describe -V minikubelet open -S ''
    if [[ -n $paths ]]; then
        compset -P '--[a-z-]##='
        [[ $paths == files ]] && _files || _files -/
    fi
}
compdef _minikubelet minikubelet
# Loaded from fpath, this is the first call itself.
[[ ${funcstack[1]} == _minikubelet ]] && _minikubelet "$@"
"""

_FISH: Final = r"""# fish completion for minikubelet
function __minikubelet_complete
    set -l words (commandline -opc) (commandline -ct)
    for line in (minikubelet complete -- $words[2..-1] 2>/dev/null)
        switch $line
            case :files
                complete -C "'' "(commandline -ct)
            case :directories
                __fish_complete_directories (commandline -ct)
            case '*'
                echo $line
        end
    end
end
complete -c minikubelet -e
complete -c minikubelet -f -a '(__minikubelet_complete)'
"""

SCRIPTS: Final = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("shell", choices=list(SCRIPTS), help="bash, zsh or fish")


def execute(options: argparse.Namespace) -> int:
    """Print the code."""
    print(SCRIPTS[options.shell], end="")
    return 0
