"""Go kit's API gateway: one HTTP door in front of services that Consul knows.

behind.py   what stands behind: addsvc over gRPC, stringsvc over HTTP, each announced
gateway.py  finds both in Consul and serves them at one address
"""
