// Calls sum, concat and a method that is not there with Go kit's own JSON-RPC client, as
// its addsvc does, and prints what it got.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"

	"github.com/go-kit/kit/transport/http/jsonrpc"
)

type sumRequest struct{ A, B int }

type concatRequest struct{ A, B string }

type reply struct {
	V any `json:"v"`
}

// decode is what addsvc's client does with a response.
func decode(_ context.Context, response jsonrpc.Response) (any, error) {
	if response.Error != nil {
		return nil, *response.Error
	}
	var got reply
	if err := json.Unmarshal(response.Result, &got); err != nil {
		return nil, fmt.Errorf("couldn't unmarshal body to a reply: %s", err)
	}
	return got, nil
}

func main() {
	target, err := url.Parse(os.Args[1])
	if err != nil {
		panic(err)
	}
	calls := []struct {
		method  string
		request any
	}{
		{"sum", sumRequest{1, 2}},
		{"concat", concatRequest{"a", "b"}},
		{"sum", sumRequest{0, 0}},
		{"nothing", sumRequest{}},
	}
	for _, call := range calls {
		client := jsonrpc.NewClient(target, call.method, jsonrpc.ClientResponseDecoder(decode))
		got, err := client.Endpoint()(context.Background(), call.request)
		if failed, ok := err.(jsonrpc.Error); ok {
			fmt.Println(call.method, failed.Code, failed.Message)
		} else if err != nil {
			fmt.Println(call.method, "failed:", err)
		} else {
			fmt.Println(call.method, got.(reply).V)
		}
	}
}
