module kitmsg-logfmt

go 1.21

require github.com/go-logfmt/logfmt v0.5.1
