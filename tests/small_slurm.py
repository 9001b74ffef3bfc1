"""The commands of SLURM, as small scripts: jobs run on this machine, are signalled, queued again and cancelled."""

from pathlib import Path

SCRIPTS = {
    "sbatch": """
id=$(($(ls $STATE | grep -c '\\.sh$') + 1))
cp "$1" $STATE/$id.sh
$BIN/launch $id
echo "Submitted batch job $id"
""",
    "launch": """
(export SLURM_JOB_ID=$1; bash $STATE/$1.sh; echo $? > $STATE/$1.ended) > /dev/null 2>&1 &
""",
    # what follows the options is the program; its logs go where the options say
    "srun": """
while [[ "$1" == --* ]]; do
    case $1 in
        --output|--error) file=${2//%j/$SLURM_JOB_ID}; files[${#files[@]}]=${file//%t/0}; shift 2 ;;
        *) shift ;;
    esac
done
echo $BASHPID > $STATE/$SLURM_JOB_ID.pid
export SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NTASKS=1 SLURM_NODEID=0 SLURM_JOB_NUM_NODES=1 SLURM_JOB_NODELIST=here
exec "$@" >> ${files[0]} 2>> ${files[1]}
""",
    "scontrol": """
echo "$@" >> $STATE/scontrol
(until [ -e $STATE/$2.ended ]; do sleep 0.05; done; rm $STATE/$2.ended; $BIN/launch $2) > /dev/null 2>&1 &
""",
    "sacct": """
echo "JobID|State|NodeList"
for job in $STATE/*.sh; do
    id=$(basename $job .sh)
    [ -e $STATE/$id.ended ] && echo "$id|FAILED|here" || echo "$id|RUNNING|here"
done
""",
    "scancel": """
echo "$@" >> $STATE/scancel
kill -${3:-KILL} $(cat $STATE/$1.pid)
""",
}


def slurm_in(folder: Path) -> Path:
    """A folder for PATH; in `state` inside it are the jobs' files (NUMBER.sh), processes (.pid) and ends (.ended)."""
    commands, state = folder / "slurm", folder / "slurm" / "state"
    state.mkdir(parents=True)
    for name, text in SCRIPTS.items():
        file = commands / name
        file.write_text(f"#!/bin/bash\nSTATE={state}\nBIN={commands}\n{text.strip()}\n")
        file.chmod(0o755)
    return commands
