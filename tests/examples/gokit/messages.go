package main

import "github.com/golang/protobuf/proto"

// The messages of addsvc.proto, as its generated code has them; written by hand, so that
// building this needs no protobuf compiler.

type SumRequest struct {
	A int64 `protobuf:"varint,1,opt,name=a,proto3"`
	B int64 `protobuf:"varint,2,opt,name=b,proto3"`
}

type SumReply struct {
	V   int64  `protobuf:"varint,1,opt,name=v,proto3"`
	Err string `protobuf:"bytes,2,opt,name=err,proto3"`
}

type ConcatRequest struct {
	A string `protobuf:"bytes,1,opt,name=a,proto3"`
	B string `protobuf:"bytes,2,opt,name=b,proto3"`
}

type ConcatReply struct {
	V   string `protobuf:"bytes,1,opt,name=v,proto3"`
	Err string `protobuf:"bytes,2,opt,name=err,proto3"`
}

func (m *SumRequest) Reset()         { *m = SumRequest{} }
func (m *SumRequest) String() string { return proto.CompactTextString(m) }
func (*SumRequest) ProtoMessage()    {}

func (m *SumReply) Reset()         { *m = SumReply{} }
func (m *SumReply) String() string { return proto.CompactTextString(m) }
func (*SumReply) ProtoMessage()    {}

func (m *ConcatRequest) Reset()         { *m = ConcatRequest{} }
func (m *ConcatRequest) String() string { return proto.CompactTextString(m) }
func (*ConcatRequest) ProtoMessage()    {}

func (m *ConcatReply) Reset()         { *m = ConcatReply{} }
func (m *ConcatReply) String() string { return proto.CompactTextString(m) }
func (*ConcatReply) ProtoMessage()    {}
