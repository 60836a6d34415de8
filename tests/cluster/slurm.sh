#!/usr/bin/env bash
# A real Slurm on this machine, from Debian's packages: munged, slurmctld and several slurmd that share the machine.
#
#   tests/cluster/slurm.sh install            apt-get install, only what is missing (root)
#   tests/cluster/slurm.sh up|status|down     start, look at, stop; all state lies in $MTFACE_SLURM_DIR
#   tests/cluster/slurm.sh run COMMAND ...    up, COMMAND with the cluster's environment, down, whatever COMMAND does
#
#   MTFACE_SLURM_DIR    folder of all state (default: /tmp/mtface-slurm); `down` removes it
#   MTFACE_SLURM_NODES  number of nodes (default 2), each of which claims two CPUs, whatever the machine has
#   MTFACE_SLURM_PORT   first of the ports, on loopback (default: from 17000 on, where none is taken)
#
# To use it by hand: export SLURM_CONF=$MTFACE_SLURM_DIR/slurm.conf, then sinfo, srun, sbatch.
# Partitions: `low`, whose jobs are requeued for those of `high` after 30 seconds' notice.
set -eu

export MTFACE_SLURM_DIR=${MTFACE_SLURM_DIR:-/tmp/mtface-slurm}
nodes=${MTFACE_SLURM_NODES:-2}
dir=$MTFACE_SLURM_DIR
export SLURM_CONF=$dir/slurm.conf
PATH=$PATH:/usr/sbin:/sbin

say() { echo "slurm.sh: $*" >&2; }
fail() { say "$@"; exit 1; }

install() {
  if command -v slurmctld slurmd munged srun >/dev/null; then return; fi
  [ "$(id -u)" = 0 ] || fail 'slurm-wlm and munge are not installed, and only root can install them'
  command -v apt-get >/dev/null || fail 'slurm-wlm and munge are not installed, and there is no apt-get'
  say 'installing slurm-wlm and munge'
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null
}

# The controller's port, behind which one for each node follows.
free_ports() {
  local first port
  for ((first = 17000; first < 30000; first += 100)); do
    for ((port = first; port <= first + nodes; port++)); do
      if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue 2; fi
    done
    echo "$first"
    return
  done
  fail 'no free ports from 17000 on'
}

write_conf() {
  local user node port i
  port=${MTFACE_SLURM_PORT:-$(free_ports)}
  user=$(id -un)
  node=$(hostname -s)
  cat >"$SLURM_CONF" <<END
ClusterName=mtface
SlurmctldHost=$node(127.0.0.1)
SlurmUser=$user
SlurmdUser=$user
SlurmctldPort=$port
AuthType=auth/munge
# How long a requeued job is held: the life of its credential, two minutes by default.
AuthInfo=socket=$dir/munge.socket,cred_expire=5
StateSaveLocation=$dir/state
SlurmctldPidFile=$dir/slurmctld.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmdLogFile=$dir/slurmd-%n.log
SlurmdSpoolDir=$dir/spool-%n
# No cgroups: containers and CI have none to give.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# The nodes claim CPUs that the machine may not have.
SlurmdParameters=config_overrides
ReturnToService=2
SchedulerParameters=sched_interval=2,bf_interval=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
KillWait=15
MinJobAge=300
SlurmctldTimeout=10
SlurmdTimeout=20
END
  for ((i = 1; i <= nodes; i++)); do
    echo "NodeName=node$i NodeHostname=$node NodeAddr=127.0.0.1 Port=$((port + i)) CPUs=2 RealMemory=1000 State=UNKNOWN" >>"$SLURM_CONF"
  done
  cat >>"$SLURM_CONF" <<END
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=30 MaxTime=INFINITE DefaultTime=10 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF MaxTime=INFINITE DefaultTime=10 State=UP
END
}

# Where no init reaps them, the dead stay as zombies, which `kill -0` takes for alive.
is_alive() { [ -e "/proc/$1" ] && ! grep -qs '^State:.*Z' "/proc/$1/status"; }
is_running() { [ -s "$1" ] && is_alive "$(cat "$1")"; }

up() {
  local i
  command -v slurmctld slurmd munged >/dev/null || fail "slurm-wlm and munge are not installed: $0 install"
  mkdir -p "$dir/state"
  chmod 755 "$dir"
  if [ ! -s "$dir/munge.key" ]; then
    (umask 077; head -c 128 /dev/urandom >"$dir/munge.key")
  fi
  [ -s "$SLURM_CONF" ] || write_conf
  is_running "$dir/munge.pid" || munged --force --socket="$dir/munge.socket" --key-file="$dir/munge.key" \
    --pid-file="$dir/munge.pid" --log-file="$dir/munge.log" --seed-file="$dir/munge.seed"
  is_running "$dir/slurmctld.pid" || slurmctld
  for ((i = 1; i <= nodes; i++)); do
    is_running "$dir/slurmd-node$i.pid" || slurmd -N "node$i"
  done
  for ((i = 0; i < 100; i++)); do
    if [ "$(sinfo -h -p low -t idle,alloc,mix -o %D 2>/dev/null)" = "$nodes" ]; then
      say "$nodes nodes are up; export SLURM_CONF=$SLURM_CONF"
      return
    fi
    sleep 0.2
  done
  tail -n 5 "$dir"/*.log >&2
  fail "the nodes did not come up in 20 seconds; logs are in $dir"
}

status() {
  is_running "$dir/slurmctld.pid" || fail "down (nothing runs in $dir)"
  sinfo
  squeue
}

stop_daemon() {
  local pid i
  is_running "$1" || return 0
  pid=$(cat "$1")
  kill "$pid"
  for ((i = 0; i < 50; i++)); do
    is_alive "$pid" || return 0
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
}

# The processes of jobs, told by their environment: this script and what it runs have SLURM_CONF too, but no SLURM_JOB_ID.
processes_of_jobs() {
  local environ
  for environ in $(grep -lzxsF "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ 2>/dev/null); do
    if grep -qzs '^SLURM_JOB_ID=' "$environ" || grep -qs slurmstepd "${environ%environ}comm"; then
      basename "${environ%/environ}"
    fi
  done
}

down() {
  local name i
  if is_running "$dir/slurmctld.pid"; then
    scancel --quiet --user="$(id -un)" 2>/dev/null || true
    for ((i = 0; i < 50; i++)); do
      [ -n "$(squeue -h 2>/dev/null)" ] || break
      sleep 0.2
    done
  fi
  for name in "$dir"/slurmd-*.pid "$dir/slurmctld.pid" "$dir/munge.pid"; do stop_daemon "$name"; done
  for name in $(processes_of_jobs); do kill -9 "$name" 2>/dev/null || true; done
  rm -rf "$dir"
  say 'down'
}

case ${1:-} in
install | up | down | status) "$1" ;;
run)
  shift
  trap down EXIT
  up
  "$@"
  ;;
*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
esac
