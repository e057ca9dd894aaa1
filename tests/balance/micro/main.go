// Command micro is a service of nats.go/micro: orders.get says which version answers.
//
//	micro URL VERSION [direct]
//
// With "direct" it also serves the endpoint at a subject of its own, so that routes of kitmsg
// can call this instance and no other.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

func main() {
	conn, err := nats.Connect(os.Args[1])
	check(err)
	version := os.Args[2]
	service, err := micro.AddService(conn, micro.Config{Name: "orders", Version: version})
	check(err)
	answer := micro.HandlerFunc(func(request micro.Request) {
		text, _ := json.Marshal("go " + version)
		_ = request.Respond(text)
	})
	check(service.AddEndpoint("get", answer, micro.WithEndpointSubject("orders.get")))
	if len(os.Args) > 3 {
		own := fmt.Sprintf("_kit.i.orders.%s.orders.get", service.Info().ID)
		check(service.AddEndpoint("get_direct", answer, micro.WithEndpointSubject(own)))
	}
	check(conn.Flush())
	fmt.Println(service.Info().ID)
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, os.Interrupt)
	<-end
	check(service.Stop())
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
