// Consul's agent, whole: its own command line, as its repository's main.go calls it.
//
// `go install` refuses the module for its replace directives, so this one requires it.
package main

import (
	"os"

	"github.com/hashicorp/consul/command"
	"github.com/hashicorp/consul/command/cli"
	"github.com/hashicorp/consul/lib"
	mcli "github.com/mitchellh/cli"
)

func main() {
	lib.SeedMathRand()
	ui := &cli.BasicUI{
		BasicUi: mcli.BasicUi{Writer: os.Stdout, ErrorWriter: os.Stderr},
	}
	agent := &mcli.CLI{
		Args:     os.Args[1:],
		Commands: command.CommandsFromRegistry(ui),
		Name:     "consul",
	}
	code, err := agent.Run()
	if err != nil {
		panic(err)
	}
	os.Exit(code)
}
