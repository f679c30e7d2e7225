# SPDX-License-Identifier: GPL-2.0-or-later
# Bash completion for tern.

_tern_vms()
{
	tern list 2>/dev/null | awk 'NR > 1 { print $1 }'
}

# Words of a value with parts: completes the last part, with what stands before it kept.
_tern_parts()
{
	local before=""
	[[ $cur == *,* ]] && before="${cur%,*},"
	mapfile -t COMPREPLY < <(compgen -P "$before" -W "$1" -- "${cur##*,}")
	compopt -o nospace
}

_tern_run()
{
	local options="--name --cpus --memory --kernel --initrd --cmdline --disk --net --rng --serial --control --sandbox
		--cpu --dirty-tracking --reset-limit --uuid --config --verbose --quiet --help"

	case $prev in
	--kernel | --initrd | --config | --control)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		;;
	--memory)
		_tern_parts "512M 1G 2G 4G hugetlb=2M hugetlb=1G prealloc=on"
		;;
	--disk)
		if [[ $cur == *,* || $cur == "" ]]; then
			_tern_parts "path= readonly=on serial= queues= cached=on"
		else
			compopt -o filenames
			mapfile -t COMPREPLY < <(compgen -f -- "${cur#path=}")
		fi
		;;
	--net)
		_tern_parts "tap= passt mac= queues= vhost=off"
		;;
	--rng)
		mapfile -t COMPREPLY < <(compgen -W "on off $options" -- "$cur")
		;;
	--serial)
		_tern_parts "stdio pty file= off"
		;;
	--sandbox)
		mapfile -t COMPREPLY < <(compgen -W "on log off" -- "$cur")
		;;
	--cpu)
		mapfile -t COMPREPLY < <(compgen -W "host x86-64-v2 x86-64-v3 x86-64-v4 armv8-base" -- "$cur")
		;;
	--dirty-tracking)
		_tern_parts "auto ring ring= bitmap"
		;;
	--reset-limit)
		mapfile -t COMPREPLY < <(compgen -W "0 unlimited" -- "$cur")
		;;
	--name | --cpus | --cmdline | --uuid) ;;
	*)
		mapfile -t COMPREPLY < <(compgen -W "$options" -- "$cur")
		;;
	esac
}

_tern_migrate()
{
	case $prev in
	--max-downtime | --deadline | --silence)
		mapfile -t COMPREPLY < <(compgen -W "1ms 10ms 30ms 100ms 60s 5m" -- "$cur")
		;;
	--channels | --bandwidth) ;;
	--tls)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		;;
	*)
		mapfile -t COMPREPLY < <(compgen -W "$(_tern_vms) tcp: unix: --max-downtime --deadline --force --channels
			--bandwidth --silence --dry-run --verify-ram --json --insecure --tls" -- "$cur")
		;;
	esac
}

_tern_receive()
{
	case $prev in
	--listen)
		mapfile -t COMPREPLY < <(compgen -W "tcp: unix: defer" -- "$cur")
		compopt -o nospace
		;;
	--map)
		mapfile -t COMPREPLY < <(compgen -W "disk0= net0= net0=passt serial= kernel= initrd=" -- "$cur")
		compopt -o nospace
		;;
	--serial | --sandbox | --dirty-tracking | --control)
		_tern_run
		;;
	--tls)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		;;
	--name) ;;
	*)
		mapfile -t COMPREPLY < <(compgen -W "--listen --map --only-mapped --name --control --serial --sandbox --dirty-tracking --silence
			--once --insecure --tls --verbose --quiet" -- "$cur")
		;;
	esac
}

_tern_save()
{
	case $prev in
	--max-downtime | --deadline | --bandwidth)
		_tern_migrate
		;;
	*)
		compopt -o filenames
		mapfile -t COMPREPLY < <(
			compgen -W "$(_tern_vms) --pause --quit --max-downtime --deadline --force --bandwidth --json" -- "$cur"
			compgen -f -- "$cur"
		)
		;;
	esac
}

_tern_restore()
{
	case $prev in
	--map | --serial | --sandbox | --dirty-tracking | --control | --name)
		_tern_receive
		;;
	*)
		compopt -o filenames
		mapfile -t COMPREPLY < <(
			compgen -W "--map --name --control --serial --sandbox --dirty-tracking --disks-as-they-are --paused
				--verbose --quiet" -- "$cur"
			compgen -f -- "$cur"
		)
		;;
	esac
}

_tern()
{
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local commands="run list status pause resume powerdown reset stop console migrate receive resolve save restore inspect doctor help version"

	COMPREPLY=()
	if [ "$COMP_CWORD" = 1 ]; then
		mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
		return
	fi
	case ${COMP_WORDS[1]} in
	run)
		_tern_run
		;;
	status)
		mapfile -t COMPREPLY < <(compgen -W "$(_tern_vms) --json" -- "$cur")
		;;
	stop)
		[ "$prev" = --timeout ] ||
			mapfile -t COMPREPLY < <(compgen -W "$(_tern_vms) --force --timeout" -- "$cur")
		;;
	pause | resume | powerdown | reset | console)
		mapfile -t COMPREPLY < <(compgen -W "$(_tern_vms)" -- "$cur")
		;;
	migrate)
		_tern_migrate
		;;
	receive)
		_tern_receive
		;;
	save)
		_tern_save
		;;
	restore)
		_tern_restore
		;;
	resolve)
		mapfile -t COMPREPLY < <(compgen -W "$(_tern_vms) --own --drop" -- "$cur")
		;;
	inspect)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur"; compgen -W "--verify" -- "$cur")
		;;
	list | doctor)
		mapfile -t COMPREPLY < <(compgen -W "--json" -- "$cur")
		;;
	help)
		mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$cur")
		;;
	esac
}

complete -F _tern tern
