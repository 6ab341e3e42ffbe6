//go:build linux

// Command picture runs a command in a terminal of its own and writes what the
// terminal shows as an SVG: make picture uses it for the README.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("picture", flag.ContinueOnError)
	columns := flags.Int("columns", 100, "columns of the terminal")
	rows := flags.Int("rows", 60, "rows of the terminal")
	title := flags.String("title", "", "title of the window; also the command that is shown as typed")
	until := flags.String("until", "", "regular expression: the picture is of the last moment at which the screen matched, else of the end")
	last := flags.Int("last", 0, "show the last lines alone; 0 shows all")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return errors.New("give the command to run, after --")
	}
	var wanted *regexp.Regexp
	if *until != "" {
		var err error
		if wanted, err = regexp.Compile(*until); err != nil {
			return err
		}
	}
	master, slave, err := openTerminal(*rows, *columns)
	if err != nil {
		return fmt.Errorf("open a terminal: %w", err)
	}
	cmd := exec.CommandContext(ctx, flags.Arg(0), flags.Args()[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "COLORTERM=truecolor")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	_ = slave.Close() // the command has its own

	screen := newScreen(*columns)
	shown := ""
	buffer := make([]byte, 32<<10)
	for {
		n, readErr := master.Read(buffer)
		screen.write(buffer[:n])
		if wanted != nil && wanted.MatchString(screen.text()) {
			shown = screen.svg(*title, *last)
		}
		if readErr != nil { // the terminal ends with the command
			break
		}
	}
	if err := cmd.Wait(); err != nil {
		fmt.Fprintln(os.Stderr, "picture: the command ended with", err)
	}
	if shown == "" {
		if wanted != nil {
			return fmt.Errorf("the screen never matched %s; in the end it showed:\n%s", *until, screen.text())
		}
		shown = screen.svg(*title, *last)
	}
	_, err = io.WriteString(os.Stdout, shown)
	return err
}
