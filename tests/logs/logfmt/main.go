// Reads logfmt by go-logfmt, which Go kit's logger is made of, and writes each line as JSON.
package main

import (
	"encoding/json"
	"log"
	"os"

	"github.com/go-logfmt/logfmt"
)

func main() {
	read := logfmt.NewDecoder(os.Stdin)
	write := json.NewEncoder(os.Stdout)
	for read.ScanRecord() {
		line := map[string]string{}
		for read.ScanKeyval() {
			line[string(read.Key())] = string(read.Value())
		}
		if err := write.Encode(line); err != nil {
			log.Fatal(err)
		}
	}
	if read.Err() != nil {
		log.Fatal(read.Err())
	}
}
