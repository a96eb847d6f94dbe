#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The Debian package installs, mounts an array by mount(8), runs the demo, and is removed without a trace: in a copy of this machine's
# files that is gone with the test (an overlay in a mount namespace of its own).
# usage: package_test.sh PACKAGE.deb      (needs root)
set -euo pipefail
source=$(realpath "$(dirname "${BASH_SOURCE[0]}")/../..")
if [[ ${2-} != inside ]]; then
  exec unshare --mount --pid --fork --kill-child -- bash "$0" "$(realpath "$1")" inside
fi
package=$1
work=$(mktemp -d /tmp/rainfs-package-test-XXXXXX)
mkdir "$work/memory" "$work/root"
mount -t tmpfs -o mode=755 overlay-files "$work/memory"
clean_up() {
  umount -R -l "$work/root" 2> /dev/null || true
  umount -l "$work/memory"
  rmdir "$work/root" "$work/memory" "$work"
}
trap clean_up EXIT
mkdir "$work/memory/upper" "$work/memory/work"
mount -t overlay -o "lowerdir=/,upperdir=$work/memory/upper,workdir=$work/memory/work" overlay "$work/root"
mount -t proc proc "$work/root/proc"
mount --rbind /dev "$work/root/dev"
mount --make-rslave "$work/root/dev"
mount -t tmpfs tmpfs "$work/root/run"
cp "$package" "$work/root/run/rainfs.deb"

inside() { chroot "$work/root" /bin/bash -euc "$1"; }
ok() { echo "ok      $1"; }

inside 'dpkg --install --force-depends /run/rainfs.deb > /run/log 2>&1 || { cat /run/log; exit 1; }'
ok "it installs"
inside 'rainfs --version; rainfsctl --version; [[ -x /sbin/mount.fuse.rainfs && -x /sbin/mount.rainfs ]]; man -w rainfs rainfsctl rainfs.yaml > /dev/null'
ok "programs, mount helpers and man pages are where they are looked for"
inside '
  mkdir -p /run/nas/{a,b,c} /run/mnt
  printf "array: t\nreplicas: 2\nracks:\n" > /etc/rainfs/t.yaml
  for r in a b c; do echo "  - { name: $r, exports: [ { name: nas$r, path: /run/nas/$r } ] }" >> /etc/rainfs/t.yaml; done
  rainfsctl create t > /dev/null 2>&1
  mount -t fuse.rainfs t /run/mnt
  echo hello > /run/mnt/file
  [[ $(find /usr/share/doc/rainfs/examples -name "*.yaml" | wc -l) -ge 4 ]]
  bash -n /usr/share/bash-completion/completions/rainfsctl
  [[ $(cat /run/nas/*/file | sort -u) == hello && $(ls /run/nas/*/file | wc -l) == 2 ]]
  rainfsctl status t > /dev/null
  umount /run/mnt
  rm /etc/rainfs/t.yaml'
ok "an array named in /etc/rainfs is made, mounted by mount(8), and healthy"
inside "cd '$source'"'; scripts/demo --installed > /run/log 2>&1 || { tail -30 /run/log; exit 1; }'
ok "the demo runs from what is installed"
inside 'dpkg --purge rainfs > /run/log 2>&1 || { cat /run/log; exit 1; }
  ! dpkg -s rainfs > /dev/null 2>&1'
# What is there of this copy's own, and not of the machine's; a character device hides what was removed.
left=$(find "$work/memory/upper" -iname '*rainfs*' ! -type c | grep -v -e /var/log/rainfs- -e "^$work/memory/upper$source" || true)
[[ -z $left ]] || { echo "left behind: $left"; exit 1; }
ok "it is removed without a trace but its logs"
