// Calls addsvc with Go kit's own clients, over every protocol that its addsvc has and over
// NATS, and prints what they got.
//
//	addsvc HTTP_URL GRPC_ADDRESS THRIFT_ADDRESS NATS_URL
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/go-kit/kit/endpoint"
	kitgrpc "github.com/go-kit/kit/transport/grpc"
	kithttp "github.com/go-kit/kit/transport/http"
	"github.com/go-kit/kit/transport/http/jsonrpc"
	kitnats "github.com/go-kit/kit/transport/nats"
	"github.com/nats-io/nats.go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"kitmsg-addsvc/addsvc"
)

// As addsvc's own requests and responses: no tags on requests, so keys are capital letters.
type sumRequest struct{ A, B int }
type concatRequest struct{ A, B string }
type response struct {
	V   any    `json:"v"`
	Err string `json:"err"`
}

func main() {
	base, grpcAddress, thriftAddress, natsURL := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	for _, door := range []struct {
		name        string
		sum, concat endpoint.Endpoint
	}{
		overHTTP(base),
		overJSONRPC(base),
		overGRPC(grpcAddress),
		overThrift(thriftAddress),
		overNATS(natsURL),
	} {
		show(door.name, door.sum, sumRequest{1, 2})
		show(door.name, door.sum, sumRequest{-5, 2})
		show(door.name, door.sum, sumRequest{0, 0})
		show(door.name, door.sum, sumRequest{1<<31 - 1, 1})
		show(door.name, door.concat, concatRequest{"a", "b<&>"})
		show(door.name, door.concat, concatRequest{"kilo", "byte per"})
	}
}

type door = struct {
	name        string
	sum, concat endpoint.Endpoint
}

func show(name string, call endpoint.Endpoint, request any) {
	got, err := call(context.Background(), request)
	var failed jsonrpc.Error
	switch {
	case errors.As(err, &failed):
		fmt.Println(name, request, "error", failed.Code, failed.Message)
	case err != nil:
		fmt.Println(name, request, "error", err)
	default:
		r := got.(response)
		fmt.Println(strings.TrimRight(fmt.Sprintln(name, request, "->", r.V, r.Err), " \n"))
	}
}

// Sends a request as addsvc's client does: JSON of unknown length, without Content-Type.
func encodeHTTP(_ context.Context, r *http.Request, request any) error {
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(request); err != nil {
		return err
	}
	r.Body = io.NopCloser(&buf)
	return nil
}

func decodeHTTP(_ context.Context, r *http.Response) (any, error) {
	if r.StatusCode != http.StatusOK {
		var w struct {
			Error string `json:"error"`
		}
		if err := json.NewDecoder(r.Body).Decode(&w); err != nil {
			return nil, err
		}
		return nil, errors.New(r.Status + ": " + w.Error)
	}
	var got response
	err := json.NewDecoder(r.Body).Decode(&got)
	return got, err
}

func overHTTP(base string) door {
	client := func(path string) endpoint.Endpoint {
		return kithttp.NewClient("POST", parse(base+path), encodeHTTP, decodeHTTP).Endpoint()
	}
	return door{"http", client("/sum"), client("/concat")}
}

func overJSONRPC(base string) door {
	decode := func(_ context.Context, r jsonrpc.Response) (any, error) {
		if r.Error != nil {
			return nil, *r.Error
		}
		var got response
		err := json.Unmarshal(r.Result, &got)
		return got, err
	}
	client := func(method string) endpoint.Endpoint {
		return jsonrpc.NewClient(
			parse(base+"/rpc"), method, jsonrpc.ClientResponseDecoder(decode),
		).Endpoint()
	}
	return door{"jsonrpc", client("sum"), client("concat")}
}

func overGRPC(address string) door {
	conn, err := grpc.Dial(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	sum := kitgrpc.NewClient(conn, "pb.Add", "Sum",
		func(_ context.Context, request any) (any, error) {
			r := request.(sumRequest)
			return &SumRequest{A: int64(r.A), B: int64(r.B)}, nil
		},
		func(_ context.Context, reply any) (any, error) {
			r := reply.(*SumReply)
			return response{r.V, r.Err}, nil
		},
		SumReply{}).Endpoint()
	concat := kitgrpc.NewClient(conn, "pb.Add", "Concat",
		func(_ context.Context, request any) (any, error) {
			r := request.(concatRequest)
			return &ConcatRequest{A: r.A, B: r.B}, nil
		},
		func(_ context.Context, reply any) (any, error) {
			r := reply.(*ConcatReply)
			return response{r.V, r.Err}, nil
		},
		ConcatReply{}).Endpoint()
	return door{"grpc", sum, concat}
}

// Go kit has no Thrift transport: its addsvc wraps the generated client so.
func overThrift(address string) door {
	socket := thrift.NewTSocketConf(address, nil)
	must(socket.Open())
	protocol := thrift.NewTBinaryProtocolFactoryConf(nil)
	client := addsvc.NewAddServiceClientFactory(socket, protocol)
	sum := func(ctx context.Context, request any) (any, error) {
		r := request.(sumRequest)
		reply, err := client.Sum(ctx, int64(r.A), int64(r.B))
		if err != nil {
			return nil, err
		}
		return response{reply.Value, reply.Err}, nil
	}
	concat := func(ctx context.Context, request any) (any, error) {
		r := request.(concatRequest)
		reply, err := client.Concat(ctx, r.A, r.B)
		if err != nil {
			return nil, err
		}
		return response{reply.Value, reply.Err}, nil
	}
	return door{"thrift", sum, concat}
}

func overNATS(address string) door {
	conn, err := nats.Connect(address)
	must(err)
	decode := func(_ context.Context, msg *nats.Msg) (any, error) {
		var got response
		err := json.Unmarshal(msg.Data, &got)
		return got, err
	}
	publisher := func(subject string) endpoint.Endpoint {
		return kitnats.NewPublisher(conn, subject, kitnats.EncodeJSONRequest, decode).Endpoint()
	}
	return door{"nats", publisher("addsvc.sum"), publisher("addsvc.concat")}
}

func parse(address string) *url.URL {
	u, err := url.Parse(address)
	must(err)
	return u
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
