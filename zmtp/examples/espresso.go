package main

import (
	"context"
	"errors"

	"zmtpd/zmtp"
	"zmtpd/zmtp/proxy"
)

// espresso is a proxy between publishers and subscribers that shows everything that passes to a
// listener, subscriptions included.
func espresso(ctx context.Context, frontend, backend string, listen func(zmtp.Message)) error {
	in, out := zmtp.NewXSub(zmtp.Config{}), zmtp.NewXPub(zmtp.Config{})
	capture, listener := zmtp.NewPair(zmtp.Config{}), zmtp.NewPair(zmtp.Config{})
	defer in.Close()
	defer out.Close()
	defer capture.Close()
	defer listener.Close()
	_, err1 := in.Listen(frontend)
	_, err2 := out.Listen(backend)
	bound, err3 := capture.Listen("tcp://127.0.0.1:*")
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	if err := listener.Connect(bound); err != nil {
		return err
	}
	p, err := proxy.New(in, out, capture)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		for m, err := range listener.All(ctx) {
			if err != nil {
				return
			}
			listen(m)
		}
	}()
	err = p.Run(ctx)
	cancel()
	<-heard
	return err
}
