package port

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/headgate/headgate/access"
)

// certify writes a certificate of its own authority with that number.
func certify(t *testing.T, dir string, number int64) *x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(number), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"tls.crt": {Type: "CERTIFICATE", Bytes: der}, "tls.key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func TestTheCertificateOfAPortMayBeRotated(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yml")
	if err := os.WriteFile(file, []byte("tls_server_config: {cert_file: tls.crt, key_file: tls.key}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	first := certify(t, dir, 1)
	s, err := Port{Address: "127.0.0.1:0", WebConfigFile: file, Guard: access.Everyone()}.Open(t.Context(), hello, Usual(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	ask := func(trusted *x509.Certificate) error {
		roots := x509.NewCertPool()
		roots.AddCert(trusted)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}
		response, err := (&http.Client{Transport: transport}).Get("https://" + s.Address())
		if err != nil {
			return err
		}
		defer response.Body.Close()
		_, err = io.Copy(io.Discard, response.Body)
		return err
	}
	if err := ask(first); err != nil {
		t.Error(err)
	}
	second := certify(t, dir, 2)
	if err := ask(second); err != nil {
		t.Errorf("the new certificate is not shown: %v", err)
	}
	var unknown x509.UnknownAuthorityError
	if err := ask(first); !errors.As(err, &unknown) {
		t.Errorf("the old certificate is still shown: %v", err)
	}
	if err := errors.Join(s.Shutdown(time.Minute), <-done); err != nil {
		t.Error(err)
	}
}
