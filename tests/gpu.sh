# Sourced by scripts that compare or measure on a GPU.

# usage: what the comment at the head of the script says, and the end.
usage() {
    sed -n '2,/^[^#]/s/^# //p' "$0" >&2
    exit 2
}

# need_gpu DONE: ends loudly where there is no GPU; DONE is what was therefore not done.
need_gpu() {
    if ! command -v nvidia-smi >/dev/null 2>&1 || ! nvidia-smi --query-gpu=name --format=csv,noheader; then
        echo "NOT RUN: THERE IS NO GPU HERE. Nothing was $1." >&2
        exit 3
    fi
}

# unpack_peers PEERS_DIR SITE_DIR: the peers' packages, packed by prepare.sh, once.
unpack_peers() {
    if [ ! -d "$2/bitsandbytes" ]; then
        mkdir -p "$2"
        tar xJf "$1/site.tar.xz" -C "$2"
    fi
}
