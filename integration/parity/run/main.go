// Run runs the scenarios of package parity on a Docker engine and on dcni, writes what the
// engine said into their files, and docs/parity.md:
//
//	parity [-run REGEXP] [-side docker|dcni] [-docker DIR] [-write=false] [-j 3]
//
// It runs in the repository's root, as root, and makes throwaway hosts; the engine is the one that
// scripts/setup unpacks. It fails where dcni says something else without a reason.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"dcni/integration/parity"
	"dcni/integration/testhost"
)

const (
	scenarios = "integration/parity/scenarios"
	document  = "docs/parity.md"
)

func main() {
	only := flag.String("run", "", "run only scenarios whose names match")
	side := flag.String("side", "", "docker or dcni: run only that one")
	write := flag.Bool("write", true, "write what was seen into the scenarios, and "+document)
	docker := flag.String("docker", "bin/test/docker", "folder with the engine's usr/sbin/dockerd and usr/bin/docker")
	atOnce := flag.Int("j", 3, "how many run at a time")
	flag.Parse()
	err := testhost.Isolate()
	if err == nil {
		err = compare(*only, *side, *docker, *write, *atOnce)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "parity:", err)
		os.Exit(1)
	}
}

// compare runs both sides and writes what came of it.
func compare(only, side, docker string, write bool, atOnce int) error {
	pattern, err := regexp.Compile(only)
	if err != nil {
		return err
	}
	all, err := parity.Load(scenarios)
	if err != nil {
		return err
	}
	var list []*parity.Scenario
	for _, s := range all {
		if pattern.MatchString(s.Name) {
			list = append(list, s)
		}
	}
	if docker, err = filepath.Abs(docker); err != nil {
		return err
	}
	binaries, err := filepath.Abs("bin")
	if err != nil {
		return err
	}
	if side != "dcni" {
		if err := each(list, atOnce, func(s *parity.Scenario) error { return onDocker(s, docker, binaries) }); err != nil {
			return err
		}
	}
	var failed atomic.Int32
	if side != "docker" {
		err := each(list, atOnce, func(s *parity.Scenario) error {
			differs, err := onDCNI(s, binaries, write)
			if differs {
				failed.Add(1)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if write {
		if err := save(all, list); err != nil {
			return err
		}
	}
	if n := failed.Load(); n > 0 {
		return fmt.Errorf("%d of %d scenarios differ and give no reason", n, len(list))
	}
	return nil
}

// each calls f for all scenarios, some at a time, each on a thread that ends with it, and with
// it the host that f makes.
func each(list []*parity.Scenario, atOnce int, f func(*parity.Scenario) error) error {
	work, done := make(chan *parity.Scenario), make(chan error)
	for range atOnce {
		go func() {
			var failed []error
			for s := range work {
				end := make(chan error)
				go func() { end <- f(s) }()
				if err := <-end; err != nil {
					failed = append(failed, fmt.Errorf("%s: %w", s.Name, err))
				}
			}
			done <- errors.Join(failed...)
		}()
	}
	for _, s := range list {
		work <- s
	}
	close(work)
	var failed []error
	for range atOnce {
		failed = append(failed, <-done)
	}
	return errors.Join(failed...)
}

// engineFile has the version of the engine that the scenarios' files are of.
const engineFile = scenarios + "/engine"

// onDocker runs a scenario on an engine of its own, and puts what it said into the scenario.
func onDocker(s *parity.Scenario, docker, binaries string) error {
	begin := time.Now()
	host, err := testhost.NewHost("")
	if err != nil {
		return err
	}
	defer func() { _ = host.Close() }() // the thread ends
	engine, err := parity.StartDocker(docker, binaries)
	if err != nil {
		return err
	}
	const patience = 2 * time.Second // what the file has may be out of date
	seen := s.Observe(engine.Run, func(s parity.Step) string { return s.Docker }, patience)
	for i := range s.Steps {
		s.Steps[i].Docker = seen[i]
	}
	fmt.Printf("docker %-30s %6.1f s\n", s.Name, time.Since(begin).Seconds())
	version := "Docker " + engine.Version() + "\n"
	return errors.Join(engine.Clean(), engine.Stop(), os.WriteFile(engineFile, []byte(version), 0o644))
}

// onDCNI runs a scenario on dcni. It reports whether it differs without a reason. What dcni said
// where it differs on purpose is put into the scenario if learn is set.
func onDCNI(s *parity.Scenario, binaries string, learn bool) (differs bool, err error) {
	begin := time.Now()
	host, err := testhost.NewHost(binaries)
	if err != nil {
		return false, err
	}
	defer func() { _ = host.Close() }() // the thread ends
	session, err := parity.DCNI(binaries)
	if err != nil {
		return false, err
	}
	const patience = 3 * time.Second
	seen := s.Observe(session.Run, parity.Step.Want, patience)
	for i := range s.Steps {
		if learn && s.Steps[i].Reason != "" {
			s.Steps[i].DCNI = seen[i]
		}
	}
	diff, result := s.Differences(seen), "same"
	switch {
	case diff != "":
		result = "DIFFERS\n" + diff
	case s.Differs():
		result = "differs on purpose"
	}
	fmt.Printf("dcni   %-30s %6.1f s  %s\n", s.Name, time.Since(begin).Seconds(), result)
	return diff != "", session.Clean()
}

// save writes the scenarios that ran, and the document of all.
func save(all, ran []*parity.Scenario) error {
	for _, s := range ran {
		if err := os.WriteFile(filepath.Join(scenarios, s.Name+".txt"), []byte(s.String()), 0o644); err != nil {
			return err
		}
	}
	reasons, err := parity.ParseReasons(parity.Reasons)
	if err != nil {
		return err
	}
	engine, err := os.ReadFile(engineFile)
	if err != nil {
		return err
	}
	text, err := parity.Document(all, reasons, strings.TrimSpace(string(engine)))
	if err != nil {
		return err
	}
	return os.WriteFile(document, []byte(text), 0o644)
}
