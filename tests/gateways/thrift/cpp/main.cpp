#include <iostream>
#include <thrift/protocol/TBinaryProtocol.h>
#include <thrift/protocol/TCompactProtocol.h>
#include <thrift/transport/TBufferTransports.h>
#include <thrift/transport/TSocket.h>
#include "Addsvc.h"

using namespace apache::thrift;

template <class Protocol, class Transport> void talk(int port) {
  auto socket = std::make_shared<transport::TSocket>("127.0.0.1", port);
  auto around = std::make_shared<Transport>(socket);
  AddsvcClient client(std::make_shared<Protocol>(around));
  around->open();
  std::string joined;
  client.concat(joined, "ab", "cd");
  std::cout << client.sum(1, 2) << " " << joined << " ";
  try {
    client.sum(2147483647, 1);
  } catch (const IntOverflow& error) {
    std::cout << error.a << " " << error.message << std::endl;
  }
  around->close();
}

int main(int, char** arguments) {
  int port = std::stoi(arguments[1]);
  talk<protocol::TBinaryProtocol, transport::TBufferedTransport>(port);
  talk<protocol::TCompactProtocol, transport::TFramedTransport>(port);
}
