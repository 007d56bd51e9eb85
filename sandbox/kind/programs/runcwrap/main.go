// Copyright (c) 2026 The meshops.istio developers
// GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// runcwrap stands where a container engine expects runc. It trims the process part of the OCI spec
// (create, run: config.json of the bundle; exec: the --process file) to what this machine permits and
// then executes the real runc: capabilities outside its own bounding set are dropped, oomScoreAdj is
// at least its own, rlimits are at most its own hard limits. All three need CAP_SYS_RESOURCE otherwise.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Debian's place first, then everybody else's.
var runcs = []string{"/usr/sbin/runc", "/usr/bin/runc", "/usr/local/bin/runc"}

// in the order of linux/capability.h and asm-generic/resource.h
var capNames = strings.Fields(`CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP
LINUX_IMMUTABLE NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO
SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE
AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON
BPF CHECKPOINT_RESTORE`)
var limitNames = strings.Fields(`CPU FSIZE DATA STACK CORE RSS NPROC NOFILE MEMLOCK AS LOCKS SIGPENDING MSGQUEUE
NICE RTPRIO RTTIME`)

type object = map[string]any

func trim(process object) {
	sets, _ := process["capabilities"].(object)
	for i, name := range capNames {
		if r, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_CAPBSET_READ, uintptr(i), 0); r == 1 {
			continue
		}
		for set, v := range sets {
			kept := []any{}
			for _, c := range v.([]any) {
				if c != "CAP_"+name {
					kept = append(kept, c)
				}
			}
			sets[set] = kept
		}
	}
	if n, ok := process["oomScoreAdj"].(json.Number); ok {
		own, want := int64(0), int64(0)
		b, _ := os.ReadFile("/proc/self/oom_score_adj")
		fmt.Sscan(string(b), &own)
		fmt.Sscan(n.String(), &want)
		process["oomScoreAdj"] = max(want, own)
	}
	limits, _ := process["rlimits"].([]any)
	for _, l := range limits {
		for i, name := range limitNames {
			var own syscall.Rlimit
			if l := l.(object); l["type"] == "RLIMIT_"+name && syscall.Getrlimit(i, &own) == nil {
				for _, k := range []string{"soft", "hard"} {
					var want uint64
					if fmt.Sscan(fmt.Sprint(l[k]), &want); want > own.Max {
						l[k] = own.Max
					}
				}
			}
		}
	}
}

func rewrite(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	d, spec := json.NewDecoder(bytes.NewReader(b)), object{}
	d.UseNumber() // 64-bit limits must survive
	if err = d.Decode(&spec); err != nil {
		return err
	}
	if process, ok := spec["process"].(object); ok {
		trim(process)
	} else {
		trim(spec)
	}
	b, _ = json.Marshal(spec)
	return os.WriteFile(file, b, 0o600)
}

func main() {
	var err error
	for i, a := range os.Args[:len(os.Args)-1] { // in this form containerd, Docker and the CRI pass them
		if next := os.Args[i+1]; a == "--bundle" {
			err = rewrite(next + "/config.json")
		} else if a == "--process" {
			err = rewrite(next)
		}
	}
	for _, runc := range runcs {
		if _, missing := os.Stat(runc); err == nil && missing == nil {
			err = syscall.Exec(runc, append([]string{runc}, os.Args[1:]...), os.Environ())
		}
	}
	fmt.Fprintln(os.Stderr, "runcwrap: nothing of", runcs, "could be executed:", err)
	os.Exit(1)
}
