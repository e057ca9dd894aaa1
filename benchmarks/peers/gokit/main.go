// Command gokit is the peer that the benchmarks compare with: sum over Go kit's NATS
// transport, as a server, as a load generator, and behind Go kit's HTTP transport.
//
//	gokit serve URL [SUBJECT]     answers gokit.sum, or another subject
//	gokit load URL [SUBJECT]      asks it
//	gokit http URL ADDRESS        POST /sum -> gokit.sum
//	gokit web ADDRESS PATH        asks any HTTP server: POST PATH {"a":1,"b":2}
//
// load and web print "ready", read lines of "INFLIGHT CALLS" and answer each with a line
// of JSON.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sort"
	"sync"
	"syscall"
	"time"

	"github.com/go-kit/kit/endpoint"
	httptransport "github.com/go-kit/kit/transport/http"
	natstransport "github.com/go-kit/kit/transport/nats"
	"github.com/nats-io/nats.go"
)

const usual = "gokit.sum"

type sumRequest struct {
	A int `json:"a"`
	B int `json:"b"`
}

type sumResponse struct {
	V int `json:"v"`
}

func sum(_ context.Context, request interface{}) (interface{}, error) {
	r := request.(sumRequest)
	return sumResponse{r.A + r.B}, nil
}

func decodeRequest(_ context.Context, msg *nats.Msg) (interface{}, error) {
	var r sumRequest
	err := json.Unmarshal(msg.Data, &r)
	return r, err
}

func decodeResponse(_ context.Context, msg *nats.Msg) (interface{}, error) {
	var r sumResponse
	err := json.Unmarshal(msg.Data, &r)
	return r, err
}

func decodeHTTP(_ context.Context, r *http.Request) (interface{}, error) {
	var request sumRequest
	err := json.NewDecoder(r.Body).Decode(&request)
	return request, err
}

func ask(nc *nats.Conn, subject string) endpoint.Endpoint {
	return natstransport.NewPublisher(
		nc, subject, natstransport.EncodeJSONRequest, decodeResponse,
	).Endpoint()
}

func wait() {
	fmt.Println("ready")
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	<-stop
}

func serve(nc *nats.Conn, subject string) {
	subscriber := natstransport.NewSubscriber(sum, decodeRequest, natstransport.EncodeJSONResponse)
	_, err := nc.QueueSubscribe(subject, "q", subscriber.ServeMsg(nc))
	check(err)
	check(nc.Flush())
	wait()
}

func serveHTTP(nc *nats.Conn, address string) {
	handler := httptransport.NewServer(ask(nc, usual), decodeHTTP, httptransport.EncodeJSONResponse)
	http.Handle("/sum", handler)
	listener, err := net.Listen("tcp", address)
	check(err)
	go func() { check(http.Serve(listener, nil)) }()
	wait()
}

func load(nc *nats.Conn, subject string) {
	call := ask(nc, subject)
	obey(func() func() {
		return func() {
			response, err := call(context.Background(), sumRequest{1, 2})
			check(err)
			if response.(sumResponse).V != 3 {
				check(fmt.Errorf("asked for 1 + 2, got %v", response))
			}
		}
	})
}

// web asks over plain sockets, so that it costs as little as a load generator can.
func web(address, path string) {
	body := `{"a":1,"b":2}`
	request := []byte(fmt.Sprintf(
		"POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, address, len(body), body))
	obey(func() func() {
		socket, err := net.Dial("tcp", address)
		check(err)
		reader := bufio.NewReader(socket)
		return func() {
			_, err := socket.Write(request)
			check(err)
			response, err := http.ReadResponse(reader, nil)
			check(err)
			data, err := io.ReadAll(response.Body)
			check(err)
			if response.StatusCode != 200 || !bytes.Contains(data, []byte("3")) {
				check(fmt.Errorf("asked for 1 + 2, got %s: %s", response.Status, data))
			}
		}
	})
}

// obey measures as the lines on its input say; makeCall is called once for each in flight.
func obey(makeCall func() func()) {
	makeCall()()
	fmt.Println("ready")
	var inFlight, calls int
	for {
		if _, err := fmt.Scan(&inFlight, &calls); err != nil {
			return
		}
		measure(makeCall, inFlight, calls)
	}
}

func measure(makeCall func() func(), inFlight, calls int) {
	each := calls / inFlight
	times := make([][]float64, inFlight)
	var group sync.WaitGroup
	cpu := cpuSeconds()
	begin := time.Now()
	for i := range times {
		group.Add(1)
		go func(i int) {
			defer group.Done()
			call := makeCall()
			for n := 0; n < each; n++ {
				start := time.Now()
				call()
				times[i] = append(times[i], time.Since(start).Seconds())
			}
		}(i)
	}
	group.Wait()
	seconds := time.Since(begin).Seconds()
	cpu = cpuSeconds() - cpu
	var all []float64
	for _, some := range times {
		all = append(all, some...)
	}
	sort.Float64s(all)
	_ = json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"calls": float64(len(all)),
		"rate":  float64(len(all)) / seconds,
		"p50":   all[len(all)/2],
		"p99":   all[len(all)*99/100],
		"cpu":   cpu / float64(len(all)),
	})
}

func cpuSeconds() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func connect(url string) *nats.Conn {
	nc, err := nats.Connect(url)
	check(err)
	return nc
}

func subject() string {
	if len(os.Args) > 3 {
		return os.Args[3]
	}
	return usual
}

func main() {
	if len(os.Args) < 3 {
		check(fmt.Errorf("usage: gokit serve|load|http|web ..."))
	}
	where := os.Args[2]
	switch os.Args[1] {
	case "serve":
		serve(connect(where), subject())
	case "load":
		load(connect(where), subject())
	case "http":
		serveHTTP(connect(where), os.Args[3])
	case "web":
		web(where, os.Args[3])
	}
}
