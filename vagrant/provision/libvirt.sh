#!/bin/bash
# Starts, stops, restarts or reports the libvirt daemon that the lab needs. Usage: libvirt.sh start|stop|restart|status
#   A daemon that answers already is used and never stopped, nor one on which other domains run. What this script started, and the one mode it changed, are
#   recorded in /run/anew-lab (gone after a reboot, as they are) and undone by "stop"; nothing else of the machine changes.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=../lib.sh
. "$here/../lib.sh"

uri=qemu:///system
state=/run/anew-lab
patience=30 # seconds that a started daemon may take to answer

answers() {
  timeout 10 virsh -q -c $uri list >/dev/null 2>&1 </dev/null ||
    { [ "$(id -u)" != 0 ] && timeout 10 sudo -n virsh -q -c $uri list >/dev/null 2>&1 </dev/null; }
}

# A process is named by its pid and its start (clock ticks since boot), so that a pid used again is never hit.
start_of() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }

# note NAME TEXT : into the state folder, which only root can write.
note() { as_root sh -c 'mkdir -p -m 0755 "$1" && printf "%s\n" "$3" >"$1/$2"' note $state "$1" "$2"; }
noted() { cat "$state/$1" 2>/dev/null; }
forget() { as_root rm -f "$state/$1"; }

# While the user that runs QEMU cannot read /dev/kvm, libvirt probes QEMU anew before every call: 90 s instead of 0.6 s.
open_kvm() {
  [ -c /dev/kvm ] && id libvirt-qemu >/dev/null 2>&1 || return 1
  as_root setpriv --reuid libvirt-qemu --regid libvirt-qemu --init-groups sh -c 'test -r /dev/kvm && test -w /dev/kvm' && return 1
  local mode
  mode=$(stat -c %a /dev/kvm)
  say "opening /dev/kvm to QEMU's user (mode $mode to 666; \"stop\" puts it back), or each call of libvirt would take a minute"
  note kvm-mode "$mode"
  as_root chmod 666 /dev/kvm
}

close_kvm() {
  local mode
  mode=$(noted kvm-mode) || return 0
  [ "$(stat -c %a /dev/kvm 2>/dev/null)" != 666 ] || as_root chmod "$mode" /dev/kvm
  forget kvm-mode
}

# launch NAME OPTION... : one daemon by hand; its pid is the one it writes itself.
launch() {
  local pid deadline=$((SECONDS + patience)) file=$state/$1.pid
  as_root mkdir -p -m 0755 $state
  as_root rm -f "$file"
  as_root "$@" -d -p "$file" || die "$1 does not start; \"$1 -v\" as root says why"
  until pid=$(noted "$1.pid") && [ -n "$pid" ]; do
    [ $SECONDS -lt $deadline ] || die "$1 wrote no pid into $file within $patience s"
    sleep 0.1
  done
  note "$1.started" "$pid $(start_of "$pid")"
}

# finish NAME : ends the daemon that launch started, and only that process.
finish() {
  local pid started deadline=$((SECONDS + patience))
  read -r pid started < <(noted "$1.started") || return 0
  if [ "$(start_of "$pid")" = "$started" ]; then
    as_root kill "$pid"
    while [ "$(start_of "$pid")" = "$started" ]; do
      [ $SECONDS -lt $deadline ] || die "$1 (pid $pid) did not end within $patience s"
      sleep 0.1
    done
  fi
  forget "$1.started"
  forget "$1.pid"
}

wait_answer() {
  local deadline=$((SECONDS + patience))
  until answers; do
    [ $SECONDS -lt $deadline ] || die "libvirt was started but $uri does not answer within $patience s; \"virsh -c $uri list\" says why"
    sleep 0.2
  done
}

# ours_by_hand NAME : whether the process that launch started still runs.
ours_by_hand() {
  local pid started
  read -r pid started < <(noted "$1.started") && [ "$(start_of "$pid")" = "$started" ]
}

start_by_systemd() {
  if [ "$1" = 1 ] && systemctl -q is-active libvirtd; then
    as_root systemctl restart libvirtd
  elif ! answers; then # with socket activation the question itself starts it
    as_root systemctl start libvirtd || die "systemd does not start libvirtd; \"systemctl status libvirtd\" says why"
    note service started
    note starter "$here"
  fi
}

start_by_hand() {
  if [ "$1" = 1 ] && ours_by_hand libvirtd; then finish libvirtd; fi
  if answers; then
    [ "$1" = 0 ] || say "libvirtd was started by somebody else and does not know yet that /dev/kvm is open; restart it if calls are slow"
    return
  fi
  pgrep -x virtlogd >/dev/null || launch virtlogd
  # Without systemd there is seldom a policy daemon to ask: the group decides, as the policy of Debian does.
  note libvirtd.conf $'unix_sock_group = "libvirt"\nunix_sock_rw_perms = "0770"\nauth_unix_rw = "none"'
  launch libvirtd -f $state/libvirtd.conf
  note starter "$here"
}

start() {
  local opened=0
  need libvirtd virsh
  ! open_kvm || opened=1
  if [ -d /run/systemd/system ]; then start_by_systemd $opened; else start_by_hand $opened; fi
  wait_answer
  reachable
}

# The user who will run anew must reach it too, not only root.
reachable() {
  timeout 10 virsh -q -c $uri list >/dev/null 2>&1 || "$here/as-libvirt" timeout 10 virsh -q -c $uri list >/dev/null 2>&1 ||
    die "libvirt runs, but $(id -un) may not use $uri; join the group libvirt (sudo usermod -aG libvirt $(id -un)) and log in again"
}

# kept_by : why a libvirt that this script started must go on all the same; nothing if it may be stopped.
kept_by() {
  local domains starter
  starter=$(noted starter) || starter=$here
  if [ "$starter" != "$here" ] && [ -d "$starter" ]; then
    echo "it was started from $starter; make lab-down there stops it"
    return
  fi
  domains=$(timeout 10 virsh -q -c $uri list --name 2>/dev/null | sed '/^$/d' | head -3 | tr '\n' ' ') || true
  [ -z "$domains" ] || echo "domains that are not the lab's run on it: $domains"
}

stop() {
  local why
  [ -d $state ] || return 0
  why=$(kept_by)
  if [ -n "$why" ]; then
    say "libvirt goes on: $why"
    return 0
  fi
  forget starter
  if [ "$(noted service)" = started ]; then
    as_root systemctl stop libvirtd
    forget service
  fi
  finish libvirtd
  finish virtlogd
  forget libvirtd.conf
  close_kvm
  [ ! -d $state ] || as_root rmdir --ignore-fail-on-non-empty $state
}

# Restarts libvirtd, and only one that this script started; guests and their consoles (virtlogd) live on.
restart() {
  if [ "$(noted service)" = started ]; then
    as_root systemctl restart libvirtd
  elif ours_by_hand libvirtd; then
    finish libvirtd
    launch libvirtd -f $state/libvirtd.conf
  else
    say "libvirtd was not started by libvirt.sh, so it is not restarted"
    return 3
  fi
  wait_answer
}

status() {
  if answers; then
    echo "libvirt answers on $uri ($([ -d $state ] && echo "started by libvirt.sh" || echo "not started by libvirt.sh"))"
  else
    echo "libvirt does not answer on $uri"
    return 3
  fi
}

case ${1-} in
  start | stop | restart | status) "$1" ;;
  *) die "usage: libvirt.sh start|stop|restart|status" ;;
esac
