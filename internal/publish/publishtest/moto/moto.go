// Package moto starts moto's server, which speaks EC2's, EBS's, S3's and SSM's
// APIs on loopback, for the tests that publish to AWS.
//
// It is installed from PyPI by the versions in requirements.txt, the first time
// that a test wants it, into $XDG_CACHE_HOME/nodesmith-test. With it comes
// botocore, whose service models package awsmodel reads.
package moto

import (
	"bytes"
	_ "embed"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"nodesmith.dev/nodesmith/internal/testenv"
	"nodesmith.dev/nodesmith/internal/testenv/pyvenv"
)

// Account is the one in which everything is.
const Account = "123456789012"

//go:embed requirements.txt
var requirements []byte

//go:embed server.py
var program []byte

// Server is a running server.
type Server struct {
	// URL is where it answers, Venv the virtual environment that it runs in.
	URL, Venv string
}

// Venv returns the virtual environment that moto is in, and installs it if it is
// not there.
func Venv() (string, error) { return pyvenv.Install("moto", requirements) }

// Main runs a package's tests with one server that they share, and returns the
// exit code: for TestMain. Where the machine lacks what moto needs, started gets
// nil.
func Main(m *testing.M, started func(*Server)) int {
	if _, err := exec.LookPath("python3"); err != nil {
		started(nil)
		return m.Run()
	}
	server, stop, err := start()
	if err != nil {
		fmt.Fprintln(os.Stderr, "moto:", err)
		return 1
	}
	defer stop()
	started(server)
	return m.Run()
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	testenv.Need(t, "python3")
	server, stop, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return server
}

// start starts a server that knows nothing but the account.
func start() (s *Server, stop func(), err error) {
	venv, err := Venv()
	if err != nil {
		return nil, nil, err
	}
	log, err := os.CreateTemp("", "moto-*.log")
	if err != nil {
		return nil, nil, err
	}
	address, err := freeAddress()
	if err != nil {
		return nil, nil, err
	}
	_, port, _ := net.SplitHostPort(address)
	server := exec.Command(filepath.Join(venv, "bin/python"), "-", "-H", "127.0.0.1", "-p", port)
	server.Stdin = bytes.NewReader(program)
	// Thousands of Amazon's own images would only slow it down.
	server.Env = append(os.Environ(), "MOTO_EC2_LOAD_DEFAULT_AMIS=false")
	server.Stdout, server.Stderr = log, log
	if err := server.Start(); err != nil {
		return nil, nil, err
	}
	stop = func() {
		_ = server.Process.Kill()
		_ = server.Wait()
		log.Close()
		os.Remove(log.Name())
	}
	s = &Server{"http://" + address, venv}
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		answer, err := http.Get(s.URL + "/moto-api/")
		if err == nil {
			answer.Body.Close()
			return s, stop, nil
		}
		if time.Now().After(deadline) {
			said, _ := os.ReadFile(log.Name())
			stop()
			return nil, nil, fmt.Errorf("does not answer: %w\n%s", err, said)
		}
	}
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// Reset makes the server forget everything; it ends the test where there is none.
func (s *Server) Reset(t testing.TB) {
	t.Helper()
	if s == nil {
		testenv.Lacks(t, "program python3")
	}
	answer, err := http.Post(s.URL+"/moto-api/reset", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("moto's reset: %s", answer.Status)
	}
}

// Config is how the SDK talks to the server at url, or to a proxy before it: with
// credentials that are none, and without retries.
func Config(url, region string) aws.Config {
	return aws.Config{
		Region: region, BaseEndpoint: &url,
		Credentials: aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
	}
}
